# One environment, three targets.
#   docker build --target api --tag graftery-api .
# Another build of torch: --build-arg TORCH_INDEX=<an index with it> --build-arg TORCH_BUILD=+cpu (or +cu128, ...);
# with neither, the one that pip finds.
FROM python:3.11-slim AS environment
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
ARG TORCH_INDEX=""
ARG TORCH_BUILD=""
WORKDIR /build
RUN python -m venv /opt/venv
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url $TORCH_INDEX} --constraint constraints.txt "$(grep '^torch==' constraints.txt)${TORCH_BUILD}"
# What the project stands on changes rarely, and is most of the image: a layer of its own.
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needed.txt \
    && pip install --constraint constraints.txt --requirement needed.txt

FROM environment AS wheel
COPY README.md LICENSE ./
COPY graftery graftery
COPY registry registry
COPY serving serving
COPY worker worker
COPY app app
COPY migrations migrations
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH
COPY --from=environment /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps /wheel/*.whl \
    && useradd --create-home --uid 10001 graftery \
    && install -d -o graftery /data
USER 10001
WORKDIR /data
ENV GRAFTERY_HOME=/data GRAFTERY_HOST=0.0.0.0 GRAFTERY_PORT=8080 GRAFTERY_LOG_JSON=true
VOLUME /data

FROM base AS api
ENV GRAFTERY_PLANES=registry
EXPOSE 8080
CMD ["python", "-m", "app.api"]

FROM base AS inference
ENV GRAFTERY_PLANES=inference GRAFTERY_GRPC_PORT=8081
EXPOSE 8080 8081
CMD ["python", "-m", "app.api"]

FROM base AS worker
CMD ["python", "-m", "worker"]
