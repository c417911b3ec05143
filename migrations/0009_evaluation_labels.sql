-- Tables find scores by their labels, which say all that the scores depend on.
create index evaluations_label_idx on evaluations (label, created_at desc);
