"""When something is due: rules, exclusions, misfires. Pure: moments are milliseconds since the epoch, passed in."""
