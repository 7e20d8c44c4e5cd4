"""What belongs to the Helm chart and is not part of it."""
