"""工程建设项目审批管理系统, read through the national exchange database (前置库) that every city's platform fills."""
