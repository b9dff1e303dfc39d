# One environment, three targets. CPU by default; another torch build by --build-arg TORCH_INDEX=<an index with it>.
#   docker build --target api -t graftery-api .
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ARG TORCH_INDEX=""
WORKDIR /srv/graftery
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url $TORCH_INDEX} --constraint constraints.txt "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY graftery graftery
COPY registry registry
COPY serving serving
COPY worker worker
COPY app app
COPY migrations migrations
RUN pip install --constraint constraints.txt . \
    && useradd --create-home --uid 10001 graftery \
    && install -d -o graftery /data
USER graftery
ENV GRAFTERY_HOME=/data GRAFTERY_HOST=0.0.0.0 GRAFTERY_PORT=8080 GRAFTERY_LOG_JSON=true
VOLUME /data

FROM base AS api
ENV GRAFTERY_PLANES=registry
EXPOSE 8080
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8080"]

FROM base AS inference
ENV GRAFTERY_PLANES=inference GRAFTERY_GRPC_PORT=8081
EXPOSE 8080 8081
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8080"]

FROM base AS worker
CMD ["python", "-m", "worker"]
