"""A simulated Huawei Cloud CodeArts Pipeline."""
