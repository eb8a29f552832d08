//! What the journeys share: starting the service for a test.
