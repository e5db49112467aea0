-- Loses: all folders, files, versions and objects
ALTER TABLE files DROP CONSTRAINT files_current_version_exists;
DROP TABLE file_versions;
DROP TABLE files;
DROP TABLE objects;
DROP TYPE object_state;
DROP TABLE folders;
