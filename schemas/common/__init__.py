"""Contracts that every context shares: money, envelopes, outcomes, problems."""
