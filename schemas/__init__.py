"""The contracts of NexaFi: everything that crosses a process. Imports pydantic and the standard library only."""
