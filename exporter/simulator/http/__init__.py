"""What all simulated clouds share: serving, request logs, answers, injected faults and throttling."""
