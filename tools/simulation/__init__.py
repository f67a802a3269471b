"""The parts of the simulated provider; `tools.simulated_provider` is the way in.

settings  latency            what can be configured
limits -> quotas -> accounts  what a key may use, and what it did use
errors    faults             every named error, and when it strikes
calls  openai  anthropic  gemini    the three dialects of HTTP and JSON
asking  *_checks    tools, formats and images: what is asked for, and what each provider refuses
engine -> delivery           one request from arrival to last byte
control -> server            the `/_sim` endpoints, and the whole application
client <- inprocess, process  the same methods for a thread and for a subprocess
"""
