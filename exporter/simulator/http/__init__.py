"""Common parts of all simulated clouds: server, request log, responses, injected faults and throttling."""
