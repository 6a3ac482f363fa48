-- A version's checkpoint gives way to one of a later update: the end of a WebRL phase is durable even where all of its updates were
-- skipped and the version stayed, and the reference, the outcome reward model and the update in it are new. The weights are not.

DROP TRIGGER policy_committed ON policy;
CREATE TRIGGER policy_committed BEFORE UPDATE ON policy FOR EACH ROW
    WHEN (OLD.committed_at IS NOT NULL AND
          (OLD.digest IS DISTINCT FROM NEW.digest OR
           (NEW.update IS DISTINCT FROM OLD.update AND (NEW.update > OLD.update) IS NOT TRUE) OR
           (NEW.update IS NOT DISTINCT FROM OLD.update AND
            (OLD.checkpoint, OLD.sha256) IS DISTINCT FROM (NEW.checkpoint, NEW.sha256))))
    EXECUTE FUNCTION refuse('a committed checkpoint gives way only to a later one of the same weights');
