DROP TABLE store_health;
DROP TABLE store_drains;
