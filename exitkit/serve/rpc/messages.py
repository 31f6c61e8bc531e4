"""The messages and methods of GRPCInferenceService as tables: every field's type and number.

Source: kserve/open-inference-protocol, `open_inference_grpc.proto`; what Triton's clients use
beyond that: its repository, statistics and configuration messages, of the last only the fields
that are filled here. A name with a dot lies inside the message before the dot.
"""

Fields = dict[str, tuple[str, int]]  # name: (type, number)

_MODEL: Fields = {"name": ("string", 1), "version": ("string", 2)}
_LOAD: Fields = {
    "repository_name": ("string", 1),
    "model_name": ("string", 2),
    "parameters": ("map ModelRepositoryParameter", 3),
}

MESSAGES: dict[str, Fields] = {
    # Health and metadata
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": ("bool", 1)},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": ("bool", 1)},
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": {"ready": ("bool", 1)},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": ("string", 1),
        "version": ("string", 2),
        "extensions": ("repeated string", 3),
    },
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": {
        "name": ("string", 1),
        "versions": ("repeated string", 2),
        "platform": ("string", 3),
        "inputs": ("repeated ModelMetadataResponse.TensorMetadata", 4),
        "outputs": ("repeated ModelMetadataResponse.TensorMetadata", 5),
        "properties": ("map string", 6),  # not in Triton's
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": ("string", 1),
        "datatype": ("string", 2),
        "shape": ("repeated int64", 3),
    },
    # Inference
    "InferParameter": {  # one of them
        "bool_param": ("bool", 1),
        "int64_param": ("int64", 2),
        "string_param": ("string", 3),
        "double_param": ("double", 4),
        "uint64_param": ("uint64", 5),
    },
    "InferTensorContents": {
        "bool_contents": ("repeated bool", 1),
        "int_contents": ("repeated int32", 2),
        "int64_contents": ("repeated int64", 3),
        "uint_contents": ("repeated uint32", 4),
        "uint64_contents": ("repeated uint64", 5),
        "fp32_contents": ("repeated float", 6),
        "fp64_contents": ("repeated double", 7),
        "bytes_contents": ("repeated bytes", 8),
    },
    "ModelInferRequest": {
        "model_name": ("string", 1),
        "model_version": ("string", 2),
        "id": ("string", 3),
        "parameters": ("map InferParameter", 4),
        "inputs": ("repeated ModelInferRequest.InferInputTensor", 5),
        "outputs": ("repeated ModelInferRequest.InferRequestedOutputTensor", 6),
        "raw_input_contents": ("repeated bytes", 7),
    },
    "ModelInferRequest.InferInputTensor": {
        "name": ("string", 1),
        "datatype": ("string", 2),
        "shape": ("repeated int64", 3),
        "parameters": ("map InferParameter", 4),
        "contents": ("InferTensorContents", 5),
    },
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": ("string", 1),
        "parameters": ("map InferParameter", 2),
    },
    "ModelInferResponse": {
        "model_name": ("string", 1),
        "model_version": ("string", 2),
        "id": ("string", 3),
        "parameters": ("map InferParameter", 4),
        "outputs": ("repeated ModelInferResponse.InferOutputTensor", 5),
        "raw_output_contents": ("repeated bytes", 6),
    },
    "ModelInferResponse.InferOutputTensor": {
        "name": ("string", 1),
        "datatype": ("string", 2),
        "shape": ("repeated int64", 3),
        "parameters": ("map InferParameter", 4),
        "contents": ("InferTensorContents", 5),
    },
    "ModelStreamInferResponse": {
        "error_message": ("string", 1),
        "infer_response": ("ModelInferResponse", 2),
    },
    # The repository
    "ModelRepositoryParameter": {  # one of them
        "bool_param": ("bool", 1),
        "int64_param": ("int64", 2),
        "string_param": ("string", 3),
        "bytes_param": ("bytes", 4),
    },
    "RepositoryIndexRequest": {"repository_name": ("string", 1), "ready": ("bool", 2)},
    "RepositoryIndexResponse": {"models": ("repeated RepositoryIndexResponse.ModelIndex", 1)},
    "RepositoryIndexResponse.ModelIndex": {
        "name": ("string", 1),
        "version": ("string", 2),
        "state": ("string", 3),
        "reason": ("string", 4),
    },
    "RepositoryModelLoadRequest": _LOAD,
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": _LOAD,
    "RepositoryModelUnloadResponse": {},
    # Statistics
    "StatisticDuration": {"count": ("uint64", 1), "ns": ("uint64", 2)},
    "InferStatistics": {
        "success": ("StatisticDuration", 1),
        "fail": ("StatisticDuration", 2),
        "queue": ("StatisticDuration", 3),
        "compute_input": ("StatisticDuration", 4),
        "compute_infer": ("StatisticDuration", 5),
        "compute_output": ("StatisticDuration", 6),
        "cache_hit": ("StatisticDuration", 7),
        "cache_miss": ("StatisticDuration", 8),
    },
    "InferBatchStatistics": {
        "batch_size": ("uint64", 1),
        "compute_input": ("StatisticDuration", 2),
        "compute_infer": ("StatisticDuration", 3),
        "compute_output": ("StatisticDuration", 4),
    },
    "InferResponseStatistics": {
        "compute_infer": ("StatisticDuration", 1),
        "compute_output": ("StatisticDuration", 2),
        "success": ("StatisticDuration", 3),
        "fail": ("StatisticDuration", 4),
        "empty_response": ("StatisticDuration", 5),
        "cancel": ("StatisticDuration", 6),
    },
    "MemoryUsage": {"type": ("string", 1), "id": ("int64", 2), "byte_size": ("uint64", 3)},
    "ModelStatistics": {
        "name": ("string", 1),
        "version": ("string", 2),
        "last_inference": ("uint64", 3),
        "inference_count": ("uint64", 4),
        "execution_count": ("uint64", 5),
        "inference_stats": ("InferStatistics", 6),
        "batch_stats": ("repeated InferBatchStatistics", 7),
        "memory_usage": ("repeated MemoryUsage", 8),
        "response_stats": ("map InferResponseStatistics", 9),
    },
    "ModelStatisticsRequest": _MODEL,
    "ModelStatisticsResponse": {"model_stats": ("repeated ModelStatistics", 1)},
    # Configuration
    "ModelTensorReshape": {"shape": ("repeated int64", 1)},
    "ModelInput": {
        "name": ("string", 1),
        "data_type": ("DataType", 2),
        "dims": ("repeated int64", 4),
        "reshape": ("ModelTensorReshape", 5),
        "optional": ("bool", 8),
    },
    "ModelOutput": {
        "name": ("string", 1),
        "data_type": ("DataType", 2),
        "dims": ("repeated int64", 3),
        "reshape": ("ModelTensorReshape", 5),
    },
    "ModelVersionPolicy": {"latest": ("ModelVersionPolicy.Latest", 1)},
    "ModelVersionPolicy.Latest": {"num_versions": ("uint32", 1)},
    "ModelDynamicBatching": {"max_queue_delay_microseconds": ("uint64", 2)},
    "ModelTransactionPolicy": {"decoupled": ("bool", 1)},
    "ModelResponseCache": {"enable": ("bool", 1)},
    "ModelConfig": {
        "name": ("string", 1),
        "platform": ("string", 2),
        "version_policy": ("ModelVersionPolicy", 3),
        "max_batch_size": ("int32", 4),
        "input": ("repeated ModelInput", 5),
        "output": ("repeated ModelOutput", 6),
        "dynamic_batching": ("ModelDynamicBatching", 11),
        "backend": ("string", 17),
        "model_transaction_policy": ("ModelTransactionPolicy", 19),
        "response_cache": ("ModelResponseCache", 24),
    },
    "ModelConfigRequest": _MODEL,
    "ModelConfigResponse": {"config": ("ModelConfig", 1)},
}

# Messages of which one field at most is set: the name of that choice.
CHOICES = {
    "InferParameter": "parameter_choice",
    "ModelRepositoryParameter": "parameter_choice",
}

ENUMS = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64",
        "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32",
        "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ),
}  # fmt: skip
