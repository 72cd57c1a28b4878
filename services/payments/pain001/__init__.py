"""Customer credit transfer initiations (ISO 20022 pain.001.001.NN): from a bank's file to payment instructions."""
