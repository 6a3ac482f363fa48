-- What has happened stays. States go only the ways of services/common/store/states.def (a test tries every other one), what has ended
-- is not written again, counters that fence go only forward. The conditions are evaluated without calling a function, so that an
-- ordinary write pays next to nothing.

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation',
        DETAIL = format('%s becomes %s', OLD, NEW);
END
$$;

CREATE TRIGGER epoch_grows BEFORE UPDATE ON data_epoch FOR EACH ROW WHEN (NEW.epoch <= OLD.epoch)
    EXECUTE FUNCTION refuse('the epoch only grows');

CREATE TRIGGER job_state BEFORE UPDATE ON job FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('queued', 'starting'), ('queued', 'cancelled'), ('starting', 'running'), ('starting', 'queued'), ('starting', 'failed'),
        ('starting', 'cancelled'), ('running', 'paused'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'),
        ('paused', 'running'), ('paused', 'succeeded'), ('paused', 'failed'), ('paused', 'cancelled')))
    EXECUTE FUNCTION refuse('this state does not follow that one');
CREATE TRIGGER job_lineage BEFORE UPDATE ON job FOR EACH ROW
    WHEN (NEW.lineage < OLD.lineage OR (NEW.lineage = OLD.lineage AND NEW.updates_done < OLD.updates_done))
    EXECUTE FUNCTION refuse('updates go back with a new lineage only, and lineages never');

CREATE TRIGGER episode_group_state BEFORE UPDATE ON episode_group FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (('open', 'closed'), ('open', 'void')))
    EXECUTE FUNCTION refuse('this state does not follow that one');

CREATE TRIGGER episode_state BEFORE UPDATE ON episode FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'leased'), ('pending', 'void'), ('leased', 'done'), ('leased', 'pending'), ('leased', 'void')))
    EXECUTE FUNCTION refuse('this state does not follow that one');
CREATE TRIGGER episode_token BEFORE UPDATE ON episode FOR EACH ROW
    WHEN (NEW.token < OLD.token OR NEW.attempt < OLD.attempt OR (NEW.state = 'leased' AND OLD.state = 'pending' AND NEW.token = OLD.token))
    EXECUTE FUNCTION refuse('a lease has a token and an attempt that grow');
CREATE TRIGGER episode_ended BEFORE UPDATE ON episode FOR EACH ROW
    WHEN (OLD.state IN ('done', 'void') AND
          (OLD.group_id, OLD.slot, OLD.token, OLD.outcome, OLD.reward, OLD.action_tokens, OLD.version_min, OLD.version_max) IS DISTINCT FROM
          (NEW.group_id, NEW.slot, NEW.token, NEW.outcome, NEW.reward, NEW.action_tokens, NEW.version_min, NEW.version_max))
    EXECUTE FUNCTION refuse('an episode that has ended does not change');

CREATE TRIGGER batch_state BEFORE UPDATE ON batch FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (('handed_out', 'applied'), ('applied', 'committed')))
    EXECUTE FUNCTION refuse('this state does not follow that one');
CREATE TRIGGER batch_members BEFORE UPDATE ON batch FOR EACH ROW
    WHEN ((OLD.kind, OLD.groups, OLD.episodes, OLD.pass, OLD.advantage, OLD.norm_tokens) IS DISTINCT FROM
          (NEW.kind, NEW.groups, NEW.episodes, NEW.pass, NEW.advantage, NEW.norm_tokens))
    EXECUTE FUNCTION refuse('what was handed out does not change');
CREATE TRIGGER batch_applied BEFORE UPDATE ON batch FOR EACH ROW
    WHEN (OLD.state <> 'handed_out' AND (OLD.outcome, OLD.version, OLD.digest) IS DISTINCT FROM (NEW.outcome, NEW.version, NEW.digest))
    EXECUTE FUNCTION refuse('what an update made does not change');

CREATE TRIGGER policy_committed BEFORE UPDATE ON policy FOR EACH ROW
    WHEN (OLD.committed_at IS NOT NULL AND
          (OLD.digest, OLD.checkpoint, OLD.sha256, OLD.update) IS DISTINCT FROM (NEW.digest, NEW.checkpoint, NEW.sha256, NEW.update))
    EXECUTE FUNCTION refuse('a committed checkpoint does not change');
CREATE TRIGGER evaluation_result BEFORE UPDATE ON evaluation FOR EACH ROW
    WHEN (OLD.done IS NOT NULL AND (OLD.done, OLD.successes) IS DISTINCT FROM (NEW.done, NEW.successes))
    EXECUTE FUNCTION refuse('a result does not change');

CREATE TRIGGER episode_payload_written BEFORE UPDATE ON episode_payload FOR EACH ROW EXECUTE FUNCTION refuse('what was played does not change');
CREATE TRIGGER training_use_written BEFORE UPDATE ON training_use FOR EACH ROW EXECUTE FUNCTION refuse('a use does not change');
CREATE TRIGGER decision_written BEFORE UPDATE ON decision FOR EACH ROW EXECUTE FUNCTION refuse('a decision does not change');
CREATE TRIGGER job_event_written BEFORE UPDATE ON job_event FOR EACH ROW EXECUTE FUNCTION refuse('an event does not change');
