"""What every process of NexaFi shares: settings, telemetry, clock, health, HTTP problems."""
