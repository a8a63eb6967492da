"""Around the host: what runs under supervisord, why it was started again, and whether it goes on."""
