"""Web console of running simulated clouds, which shows their true states and requests, and switches troubles."""
