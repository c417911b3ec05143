-- What is wrong with a worker that is alive and claims nothing because of it; null when all is well.
alter table workers add column ails text;
