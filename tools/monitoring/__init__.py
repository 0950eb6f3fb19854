"""What is generated of metrics, rules and dashboards, from the tables and files that they are declared in."""
