"""投资项目在线审批监管平台: gives a project its code, and decides it (审批, 核准, 备案). It joined fully."""
