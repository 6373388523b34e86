"""What an operator sees and switches of running simulated clouds: their truth, their requests and their troubles."""
