"""Payments as read: state, timeline, refunds."""
