"""The control plane's store: tenants, subscriptions, keys, catalog versions, epochs, audit. SQL is its truth."""
