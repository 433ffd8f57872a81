"""An app of the example project for tests: tasks that end in every way, and receivers that write down all."""
