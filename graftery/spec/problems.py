"""The one table from error code to HTTP status and title. `app`, `serving` and docs/errors.md follow it."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[str, Problem] = {
    # The module file, in the order of its checks (docs/module-file.md).
    "module_file_invalid": Problem(422, "This is not a module file"),
    "file_too_large": Problem(413, "The file is over the size limit"),
    "file_truncated": Problem(422, "The file is shorter or longer than its header says"),
    "header_too_large": Problem(422, "The file's header is over the limit"),
    "header_invalid": Problem(422, "The file's header cannot be read"),
    "header_duplicate_key": Problem(422, "The file's header names a key twice"),
    "tensor_count": Problem(422, "The file has too many tensors"),
    "tensor_invalid": Problem(422, "A tensor's entry is not allowed"),
    "tensor_offsets": Problem(422, "The tensors' offsets overlap, leave holes or leave the file"),
    "document_invalid": Problem(422, "The module document cannot be read"),
    "format_version": Problem(422, "The file has a format version that this service does not read"),
    "manifest_invalid": Problem(422, "The manifest is not valid"),
    "graph_invalid": Problem(422, "The op graph is not valid"),
    "graph_too_large": Problem(422, "The op graph is over a limit"),
    "operator_refused": Problem(422, "An operator is not on the allow-list"),
    "arguments_invalid": Problem(422, "An operator's arguments do not fit its schema"),
    "value_undefined": Problem(422, "A value is used before it is defined"),
    "value_redefined": Problem(422, "A value is defined twice"),
    "weight_missing": Problem(422, "The graph names a weight that the file lacks"),
    "weight_unused": Problem(422, "The file has a weight that the graph does not use"),
    "batch_norm_training": Problem(422, "A batch norm is in training mode"),
    "shapes_invalid": Problem(422, "The shapes or dtypes in the graph do not fit together"),
    "work_too_large": Problem(422, "The graph asks for more memory or work than is allowed"),
    "batch_mixing": Problem(422, "An output row depends on another row of the batch"),
    "weights_invalid": Problem(422, "The weights hold NaN or Inf"),
    "probe_mismatch": Problem(422, "The net does not give the outputs that its file states"),
    "gradient_invalid": Problem(422, "The gradient of the gradient is missing or not finite"),
    "verify_limit": Problem(422, "The check ran over its time or memory"),
    "trace_unsupported": Problem(422, "The net uses something that a module file cannot hold"),
    "cut_not_found": Problem(422, "The cut names no layer of this net"),
    "cut_not_separating": Problem(422, "The cut does not separate the net"),
    # Joining.
    "shape_mismatch": Problem(409, "The shapes cannot be joined"),
    "preprocessing_mismatch": Problem(409, "The preprocessing disagrees"),
    "semantics_mismatch": Problem(409, "The outputs do not mean the same"),
    "kind_mismatch": Problem(409, "The reference is of another kind"),
    "cells_differ": Problem(409, "The cells do not share the module"),
    "group_mismatch": Problem(409, "The modules are not of one compatibility group"),
    "group_untrained": Problem(409, "The compatibility group has no shared heads yet"),
    "architecture_mismatch": Problem(409, "The network is not built as the group's initial weights are"),
    "common_classes": Problem(422, "There are too few common classes"),
    "at_chance": Problem(422, "The module is no better than chance"),
    "class_unknown": Problem(422, "The source has no such class"),
    "class_known": Problem(409, "The network has this class already"),
    "position_invalid": Problem(422, "The clone cannot be inserted there"),
    "target_changed": Problem(409, "The target is not the network that the clone was made for"),
    "localization_failed": Problem(422, "Too little of the skill is left in the masked source"),
    "samples_overlap": Problem(422, "Samples to train and to measure on overlap"),
    "recipe_invalid": Problem(422, "The recipe cannot be used"),
    "checkpoint_refused": Problem(422, "The training cannot go on from this checkpoint"),
    "samples_invalid": Problem(422, "The sample set cannot be used"),
    "samples_missing": Problem(422, "The recipe needs samples"),
    # Jobs.
    "diverged": Problem(500, "The training diverged"),
    "frozen_changed": Problem(500, "A module that must stay as it is changed during the training"),
    "out_of_memory": Problem(500, "The device ran out of memory"),
    "crashed": Problem(500, "The job's process died, again and again"),
    "job_failed": Problem(500, "The job failed"),
    # The registry.
    "not_found": Problem(404, "There is nothing of this name"),
    "yanked": Problem(404, "The version was yanked"),
    "conflict": Problem(409, "The state of the registry forbids it"),
    "kind_conflict": Problem(409, "The name belongs to another kind"),
    "cells_worse": Problem(409, "Cells of the generic network would become worse"),
    "has_dependents": Problem(409, "Others depend on it"),
    "job_state": Problem(409, "The job's state forbids it"),
    "idempotency_conflict": Problem(409, "The Idempotency-Key was used for another request"),
    "precondition_failed": Problem(412, "The row has changed since it was read"),
    "digest_mismatch": Problem(422, "The body does not have the stated digest"),
    "name_invalid": Problem(422, "The name is not allowed"),
    "request_invalid": Problem(422, "The request is malformed"),
    "request_too_large": Problem(413, "The request's body is over the size limit"),
    "method_not_allowed": Problem(405, "The method is not allowed here"),
    "range_invalid": Problem(416, "The range is outside the file"),
    "unsupported_media_type": Problem(415, "The content type is not supported"),
    "upload_offset": Problem(409, "The bytes do not begin where the upload stands"),
    "tus_version": Problem(412, "This version of tus is not spoken here"),
    "upload_incomplete": Problem(409, "Bytes of the upload are missing"),
    "quota_exceeded": Problem(413, "The namespace's quota does not allow it"),
    "layout_invalid": Problem(422, "The directory is no layout of a registry"),
    "store_full": Problem(507, "The disk is full"),
    "store_corrupt": Problem(500, "The bytes do not verify"),
    # Inference.
    "inference_invalid": Problem(400, "The inference request is not valid"),
    "not_ready": Problem(503, "The network is not ready"),
    "unavailable": Problem(503, "The service cannot take this now"),
    "schema_unknown": Problem(503, "The database has a schema that this version does not know"),
    "deadline_exceeded": Problem(504, "The request was not answered within its timeout"),
    # Access.
    "unauthenticated": Problem(401, "A key is needed"),
    "forbidden": Problem(403, "The key does not allow it"),
    "rate_limited": Problem(429, "There are too many requests"),
    "request_timeout": Problem(408, "The request's body did not come"),
    # The rest.
    "service_error": Problem(502, "The service could not be reached, or its answer could not be read"),
    "internal": Problem(500, "The service met an error of its own"),
}


def status_of(code: str) -> int:
    """The HTTP status for an error code; 500 for a code that is not in the table."""
    return PROBLEMS.get(code, PROBLEMS["internal"]).status
