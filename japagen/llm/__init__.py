"""Language models: prompts, requests, budget, ledger and backends."""
