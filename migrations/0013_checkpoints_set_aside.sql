-- A checkpoint that is set aside is chosen by nobody: it was found damaged when a run was to go on from it,
-- or its run was taken back to an earlier one. Its files stay where they are; the step is kept again once
-- the run comes by and writes it anew.
alter type checkpoint_state add value 'aside';
