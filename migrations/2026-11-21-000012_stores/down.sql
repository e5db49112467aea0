-- Loses: which stores are being drained
DROP TABLE store_health;
DROP TABLE store_drains;
