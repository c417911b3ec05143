-- Where a run read its data. `datasets` says where the same data was seen last, which may be a later copy.
alter table run_datasets add column uri text;
update run_datasets set uri = datasets.uri from datasets where datasets.id = dataset_id;
alter table run_datasets alter column uri set not null;
