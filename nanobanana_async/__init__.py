"""Asyncio-native client and job scheduler for the Nano Banana image API."""
