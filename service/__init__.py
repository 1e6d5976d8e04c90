"""What every process of Tallygate has in common: problems, health, metrics, logs, its start and its end."""
