/*
 * explain.sql
 *		Why a call came out as it did, for people.
 *
 * Decides nothing: what a rule says is asked of the functions in rules.sql that
 * the triggers ask, what was decided is read from the rows.  Where the two
 * differ, because facts or settings have changed since, it says so, and the
 * rows are right.
 *
 * What callers, agents and receivers have said is shown quoted and cut off.
 */

/* ---- words ---- */

CREATE FUNCTION osmtalk.quoted(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- to_json() escapes control characters; the others that are not seen, or turn a line around, become "?"
RETURN pg_catalog.to_json(pg_catalog.regexp_replace(
	CASE WHEN pg_catalog.length(value) > 200 THEN pg_catalog.left(value, 200) || '...' ELSE value END COLLATE "C",
	'[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]', '?', 'g'))::text;
COMMENT ON FUNCTION osmtalk.quoted(text) IS
'Internal: the text in quotes, cut off after 200 characters, without what could mislead whoever reads it';

CREATE FUNCTION osmtalk.value_in_words(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- an array or object of a few kilobytes can be a gigabyte as text
RETURN CASE pg_catalog.jsonb_typeof(value)
	WHEN 'string' THEN osmtalk.quoted(value OPERATOR(pg_catalog.#>>) '{}')
	WHEN 'number' THEN pg_catalog.left(value::text, 40)
	WHEN 'boolean' THEN value::text
	WHEN 'null' THEN 'null'
	WHEN 'array' THEN 'an array'
	WHEN 'object' THEN 'an object'
	ELSE 'absent'
END;
COMMENT ON FUNCTION osmtalk.value_in_words(jsonb) IS
'Internal: a value of an analysis, for a sentence';

CREATE FUNCTION osmtalk.answer_in_words(call_answered_at timestamptz, call_ended_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
	WHEN call_answered_at IS NULL THEN 'the call was not answered'
	WHEN NOT pg_catalog.isfinite(call_answered_at) THEN 'the call was not answered (an infinite answered_at counts as none)'
	WHEN osmtalk.microseconds_between(call_answered_at, call_ended_at) IS NULL THEN 'the call was answered'
	WHEN call_ended_at < call_answered_at THEN 'the call ended before it was answered'
	ELSE pg_catalog.format('the call was answered, and ended %s s later',
			pg_catalog.trim_scale(osmtalk.microseconds_between(call_answered_at, call_ended_at)::numeric * 0.000001))
END;
COMMENT ON FUNCTION osmtalk.answer_in_words(timestamptz, timestamptz) IS
'Internal: whether a call was answered, and for how long it lasted';

/* ---- the call's status ---- */

/*
 * Each of call_outcome()'s rules by itself is what it says when it is shown
 * nothing that another one could go by.  Null where the call has not ended.
 */
CREATE FUNCTION osmtalk.outcome_rules(call osmtalk.calls)
RETURNS TABLE (number int, rule text, saw text, matched boolean, result text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT r.number, r.rule, r.saw, r.matched, r.result
	  FROM (SELECT COALESCE('the SIP code was ' || (call).sip_status_code::text, 'no SIP code was recorded') AS sip,
				   osmtalk.answer_in_words((call).answered_at, (call).ended_at) AS lasted) w,
		   LATERAL (VALUES
			(1, 'The SIP code is 486 or 600', w.sip,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, (call).sip_status_code, false, NULL) = 'busy', 'busy'),
			-- with an error no rule after it says no_answer
			(2, 'The SIP code is 408, 480 or 487, and the call was not answered', w.sip || ', and ' || w.lasted,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, (call).sip_status_code, false, '') = 'no_answer', 'no_answer'),
			(3, 'An error was recorded: the bot crashed, or the network failed',
			 COALESCE('the error ' || osmtalk.quoted((call).error) || ' was recorded', 'no error was recorded'),
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, NULL, false, (call).error) = 'failed', 'failed'),
			(4, 'The SIP code is any other of 400 or more', w.sip,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, (call).sip_status_code, false, NULL) = 'failed', 'failed'),
			(5, 'A voicemail was detected',
			 CASE WHEN (call).voicemail_detected THEN 'a voicemail was detected' ELSE 'no voicemail was detected' END,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, NULL, (call).voicemail_detected, NULL) = 'voicemail', 'voicemail'),
			(6, 'The call was not answered, or ended less than 3 seconds after it was answered', w.lasted,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, NULL, false, NULL) = 'no_answer', 'no_answer'),
			(7, 'Otherwise', w.lasted,
			 osmtalk.call_outcome((call).answered_at, (call).ended_at, (call).sip_status_code, (call).voicemail_detected, (call).error) = 'completed',
			 'completed')) r (number, rule, saw, matched, result);
END;
COMMENT ON FUNCTION osmtalk.outcome_rules(osmtalk.calls) IS
'Internal: the rules of call_outcome() in their order, each by itself, with what it sees of this call; matched is null if the call has not ended';

CREATE FUNCTION osmtalk.explain_status(call osmtalk.calls)
RETURNS TABLE (number int, rule text, saw text, matched boolean, winner boolean, result text, sentence text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	the_call constant text := 'Call ' || osmtalk.quoted(call.id);
	blocked constant boolean := call.status = 'dnc_blocked';
	running constant boolean := osmtalk.is_open(call.status);
	imported constant boolean := call.origin IS NULL;
	given constant osmtalk.call_status :=
		osmtalk.call_outcome(call.answered_at, call.ended_at, call.sip_status_code, call.voicemail_detected, call.error);
BEGIN
	RETURN QUERY SELECT 0, 'An outbound call to a number on its organisation''s DNC list is never placed',
		CASE
			WHEN blocked THEN 'the number was on the list when the call was to be placed'
			WHEN imported THEN 'the row was imported with its placed_at, to which no such rule applies'
			WHEN call.direction <> 'outbound' THEN format('the call is %s', call.direction)
			WHEN osmtalk.try_normalize_phone(call.phone_number) IS NULL THEN 'the number is none that could be on the list'
			WHEN osmtalk.is_dnc_listed(call.org_id, call.phone_number) THEN 'the number was not on the list when the call was placed; that it is by now changes nothing'
			ELSE 'the number was not on the list when the call was placed'
		END,
		CASE WHEN blocked OR NOT imported THEN blocked END, blocked, 'dnc_blocked',
		the_call || ' was never placed: its number was on the organisation''s DNC list.';
	RETURN QUERY SELECT 1, 'Of a call that has not ended nothing is decided',
		CASE
			WHEN isfinite(call.ended_at) THEN format('the call ended at %s', osmtalk.iso_time(call.ended_at))
			WHEN NOT running THEN 'the call has ended, whatever ended_at is by now'
			WHEN call.ended_at IS NULL THEN 'ended_at is not set'
			ELSE 'ended_at is infinite, which counts as not set'
		END,
		CASE WHEN NOT blocked THEN running END, running, CASE WHEN running THEN call.status::text END,
		format('%s is not final: it has not ended, so nothing is decided yet, and its status is %s.', the_call, call.status);
	RETURN QUERY SELECT r.number + 1, r.rule, r.saw, CASE WHEN NOT blocked AND NOT running THEN r.matched END,
		NOT blocked AND NOT running AND r.matched IS TRUE AND given = call.status
			AND r.number = min(r.number) FILTER (WHERE r.matched) OVER (),
		r.result, format('%s came out as %s, because %s%s.', the_call, r.result, r.saw,
						 CASE r.number WHEN 7 THEN ', and no rule before applies' ELSE '' END)
	   FROM osmtalk.outcome_rules(call) r;
	IF NOT blocked AND NOT running AND given IS DISTINCT FROM call.status THEN
		RETURN QUERY SELECT 9, 'A status is decided once: by the statement that sets ended_at', 'what is recorded now gives ' || coalesce(given::text, 'none'),
			true, true, call.status::text,
			format('%s came out as %s: %s. What is recorded now would make it %s; that changes nothing.', the_call, call.status,
				   CASE WHEN imported THEN 'it was imported with that status, or its facts were changed after it had ended'
						ELSE 'that was decided when it ended, and its facts were changed afterwards' END,
				   coalesce(given::text, 'a call that has not ended'));
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.explain_status(osmtalk.calls) IS
'Internal: the rules that decide a call''s status, for explain_outcome()';

/* ---- the lead's status ---- */

/*
 * What a call has done to its lead, or is about to.  A decision and what comes
 * of it have the time of one transaction, by which they are told from what
 * happened to the lead before and afterwards.
 */
CREATE FUNCTION osmtalk.effect_on_lead(call osmtalk.calls, lead osmtalk.leads) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_latest constant boolean := lead.call_id IS NOT DISTINCT FROM call.id;
	told boolean;
	told_before boolean;
	untold text; -- why there was no event
BEGIN
	IF osmtalk.is_open(call.status) THEN
		RETURN 'open';
	ELSIF lead.id IS NULL THEN
		RETURN 'no lead';
	ELSIF call.decided_at IS NULL THEN
		RETURN CASE WHEN NOT is_latest THEN 'older' WHEN call.awaiting_since IS NULL THEN 'imported' ELSE 'waits' END;
	ELSIF is_latest AND osmtalk.is_terminal(lead.status) THEN
		RETURN CASE
			WHEN lead.status <> osmtalk.lead_outcome(call.status) OR lead.completed_at IS DISTINCT FROM call.decided_at THEN 'application'
			WHEN call.status = 'dnc_blocked' THEN 'blocked'
			ELSE 'takes'
		END;
	END IF;
	-- the lead has gone on since
	SELECT coalesce(bool_or(e.created_at = call.decided_at), false), coalesce(bool_or(e.created_at < call.decided_at), false)
	  INTO told, told_before
	  FROM osmtalk.events e WHERE e.call_id = call.id AND e.type = 'campaign.lead_completed';
	SELECT o.reason INTO untold FROM osmtalk.outcomes_without_event o
	 WHERE o.decided_at = call.decided_at AND o.call_id = call.id AND o.type = 'campaign.lead_completed';
	RETURN CASE
		WHEN told OR untold LIKE 'filtered:%' THEN CASE WHEN call.status = 'dnc_blocked' THEN 'blocked' ELSE 'takes' END
		WHEN call.status = 'dnc_blocked' THEN 'spared'
		WHEN told_before OR untold LIKE 'not sent again:%' THEN 'application'
		WHEN untold LIKE 'not final:%' THEN 'retried'
		ELSE 'forgotten'
	END;
END
$$;
COMMENT ON FUNCTION osmtalk.effect_on_lead(osmtalk.calls, osmtalk.leads) IS
'Internal: what a call did to its lead: open, no lead, older (than the latest), imported, waits, blocked, spared (was terminal already), application (has set the status itself), retried, takes (the call''s status), forgotten (nothing of then is kept)';

CREATE FUNCTION osmtalk.wait_in_words(call osmtalk.calls, analyzed boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN (call).status <> 'completed' THEN 'the call is ' || (call).status::text
	WHEN (call).agent_id IS NULL THEN 'the call has no agent'
	WHEN analyzed IS NOT TRUE THEN 'its agent has no analysis configured'
	WHEN osmtalk.has_analysis((call).analysis) THEN 'the analysis has come'
	WHEN (call).analysis_error IS NOT NULL THEN 'the analysis failed: ' || osmtalk.quoted((call).analysis_error)
	ELSE 'no analysis has come'
END;
COMMENT ON FUNCTION osmtalk.wait_in_words(osmtalk.calls, boolean) IS
'Internal: what decides whether a call waits for its analysis; analyzed: whether its agent has analysis configured';

CREATE FUNCTION osmtalk.end_of_wait(call osmtalk.calls) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE
		WHEN (call).origin = 'discarded' THEN 'and no worker ends that: adopt(discard => true) has left it so'
		WHEN (call).origin IS DISTINCT FROM osmtalk.current_origin() THEN 'and no worker ends that before osmtalk.adopt(): it was placed in another database'
		WHEN EXISTS (SELECT FROM osmtalk.paused) THEN 'and no worker ends that before osmtalk.resume()'
		WHEN osmtalk.awaits_analysis(call) THEN pg_catalog.format('until %s at the latest', osmtalk.iso_time((call).awaiting_since + osmtalk.analysis_timeout()))
		ELSE 'and that is over: a worker decides it at its next look'
	END;
END;
COMMENT ON FUNCTION osmtalk.end_of_wait(osmtalk.calls) IS
'Internal: until when a call waits for its analysis, for a sentence';

CREATE FUNCTION osmtalk.explain_lead(call osmtalk.calls)
RETURNS TABLE (number int, rule text, saw text, matched boolean, winner boolean, result text, sentence text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead osmtalk.leads;
	policy record; -- not the campaign: there is a secret in it
	effect text;
	outcome constant text := CASE WHEN NOT osmtalk.is_open(call.status) THEN osmtalk.lead_outcome(call.status) END;
	is_latest boolean;
	the_lead text;
	since text := '';
	decided_by int;
BEGIN
	SELECT * INTO lead FROM osmtalk.leads l WHERE l.id = call.lead_id;
	SELECT c.retry_on, c.max_attempts INTO policy FROM osmtalk.campaigns c WHERE c.id = lead.campaign_id;
	effect := osmtalk.effect_on_lead(call, lead);
	is_latest := lead.call_id IS NOT DISTINCT FROM call.id;
	the_lead := 'The lead ' || osmtalk.quoted(lead.id);
	IF NOT is_latest THEN
		since := format(' It has been called again since (call %s).', coalesce(osmtalk.quoted(lead.call_id), 'unknown'));
	ELSIF effect IN ('takes', 'blocked') AND NOT osmtalk.is_terminal(lead.status) THEN
		since := format(' It has been made %s again since.', lead.status);
	END IF;
	decided_by := CASE effect WHEN 'no lead' THEN 1 WHEN 'older' THEN 2 WHEN 'imported' THEN 2 WHEN 'blocked' THEN 3 WHEN 'spared' THEN 3
		WHEN 'waits' THEN 4 WHEN 'application' THEN 5 WHEN 'retried' THEN 6 WHEN 'takes' THEN 7 WHEN 'forgotten' THEN 8 END;

	RETURN QUERY
	SELECT r.number, r.rule, r.saw,
		   CASE WHEN r.number = decided_by THEN true WHEN r.number < least(decided_by, CASE effect WHEN 'forgotten' THEN 5 END) THEN false END,
		   r.number IS NOT DISTINCT FROM decided_by,
		   CASE WHEN r.number = decided_by THEN r.result END, r.sentence
	  FROM (VALUES
		(1, 'A call without a lead decides none',
			CASE WHEN lead.id IS NULL THEN 'the call has no lead: it is of no campaign, or the lead was deleted' ELSE 'the call has a lead' END,
			NULL, 'It has no lead (it is of no campaign, or the lead was deleted), so it decides none.'),
		(2, 'Only the lead''s latest call decides it, when it ends',
			CASE WHEN is_latest THEN 'it is the lead''s latest call' ELSE format('the lead''s latest call is now %s', coalesce(osmtalk.quoted(lead.call_id), 'none')) END,
			lead.status::text,
			CASE effect
				WHEN 'older' THEN format('%s had been called again before this call was decided (call %s), so this one changes nothing of it.', the_lead, coalesce(osmtalk.quoted(lead.call_id), 'unknown'))
				ELSE the_lead || ' is not decided by it: the call was imported as history, or given its lead after it had ended.'
			END),
		(3, 'A call that the DNC list blocks makes its lead dnc_blocked, without using an attempt, unless it is terminal already',
			CASE WHEN call.status = 'dnc_blocked' THEN 'the call was blocked' ELSE 'the call was not blocked' END,
			CASE effect WHEN 'blocked' THEN 'dnc_blocked' ELSE lead.status::text END,
			the_lead || CASE effect WHEN 'blocked' THEN ' became dnc_blocked, without using an attempt.' || since ELSE ' was terminal already, and stayed as it was.' END),
		(4, 'A completed call whose agent has analysis configured waits for it, for osmtalk.analysis_timeout at most',
			osmtalk.wait_in_words(call, (SELECT osmtalk.analysis_configured(a) FROM osmtalk.agents a WHERE a.id = call.agent_id)), lead.status::text,
			format('%s is not decided yet: the call waits for its analysis, %s.', the_lead, osmtalk.end_of_wait(call))),
		(5, 'A status that the application has given the lead itself stands',
			CASE WHEN is_latest THEN format('the lead is %s%s', lead.status, coalesce(' since ' || osmtalk.iso_time(lead.completed_at), ''))
				 ELSE 'the lead has been called again since' END,
			CASE WHEN is_latest THEN lead.status::text END,
			CASE WHEN is_latest
				 THEN format('%s is %s because the application has set that itself; the call came out as %s.', the_lead, lead.status, outcome)
				 ELSE the_lead || ' had a status that the application had set itself, which stood.' || since END),
		(6, 'The retry policy: an outcome in the campaign''s retry_on, after fewer attempts than max_attempts, puts the lead back to pending',
			format('the outcome was %s, retry_on is %s, and %s', outcome, policy.retry_on,
				   CASE WHEN is_latest THEN format('the lead has used %s of %s attempts', lead.attempts, policy.max_attempts)
						ELSE format('max_attempts is %s', policy.max_attempts) END),
			'pending',
			format('%s went back to pending, to be called again%s: its campaign tries %s again%s.%s', the_lead,
				   CASE WHEN is_latest AND lead.next_attempt_at IS NOT NULL THEN ' from ' || coalesce(osmtalk.iso_time(lead.next_attempt_at), lead.next_attempt_at::text) ELSE '' END,
				   outcome,
				   CASE WHEN NOT is_latest THEN ''
						WHEN osmtalk.is_retried(outcome::osmtalk.lead_status, lead.attempts, policy.retry_on, policy.max_attempts)
						THEN format(', and it had used %s of %s attempts', lead.attempts, policy.max_attempts)
						ELSE ' by its policy of then' END,
				   since)),
		(7, 'Otherwise the lead takes the status of the call', 'the call is ' || call.status, outcome,
			format('%s became %s.%s', the_lead, outcome, since)),
		(8, 'It is events, and outcomes_without_event, that tell, where the lead has gone on since', 'there is nothing of then: the call was imported, or is older than osmtalk.retention', NULL,
			format('What the call made of the lead %s is not known any more: nothing of then is kept.%s', osmtalk.quoted(lead.id), since))
		) r (number, rule, saw, result, sentence)
	 WHERE r.number < 8 OR effect = 'forgotten';
END
$$;
COMMENT ON FUNCTION osmtalk.explain_lead(osmtalk.calls) IS
'Internal: the rules by which a call decides its lead, for explain_outcome()';

/* ---- the disposition ---- */

/*
 * Each of disposition()'s rules by itself, likewise.
 */
CREATE FUNCTION osmtalk.disposition_rules(analysis jsonb)
RETURNS TABLE (number int, rule text, saw text, matched boolean, result text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT r.number, r.rule, COALESCE(w.nothing, r.saw), r.matched, r.result
	  FROM (SELECT CASE WHEN pg_catalog.jsonb_typeof(analysis) = 'object' THEN analysis - 'lead_qualified' - 'success' END AS rest,
				   CASE WHEN NOT osmtalk.has_analysis(analysis) THEN 'there is no analysis'
						WHEN pg_catalog.jsonb_typeof(analysis) <> 'object' THEN 'the analysis is no object but ' || osmtalk.value_in_words(analysis)
				   END AS nothing,
				   'next_action was ' || osmtalk.value_in_words(analysis -> 'next_action') AS next_action) w,
		   LATERAL (VALUES
			(1, 'lead_qualified or success is the JSON boolean true',
			 pg_catalog.format('lead_qualified was %s, and success %s', osmtalk.value_in_words(analysis -> 'lead_qualified'), osmtalk.value_in_words(analysis -> 'success')),
			 osmtalk.disposition(analysis) = 'qualified', 'qualified'),
			(2, 'next_action is "not_interested"', w.next_action, osmtalk.disposition(w.rest) = 'not_interested', 'not_interested'),
			(3, 'next_action is "callback_later"', w.next_action, osmtalk.disposition(w.rest) = 'callback', 'callback'),
			(4, 'Otherwise', w.next_action, osmtalk.disposition(analysis) = 'completed', 'completed')) r (number, rule, saw, matched, result);
END;
COMMENT ON FUNCTION osmtalk.disposition_rules(jsonb) IS
'Internal: the rules of disposition() in their order, each by itself, with what it sees of this analysis';

CREATE FUNCTION osmtalk.explain_disposition(call osmtalk.calls)
RETURNS TABLE (number int, rule text, saw text, matched boolean, winner boolean, result text, sentence text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead osmtalk.leads;
	analyzed constant boolean := EXISTS (SELECT FROM osmtalk.agents a WHERE a.id = call.agent_id AND osmtalk.analysis_configured(a));
	agent constant text := CASE WHEN analyzed THEN 'its agent has analysis configured' WHEN call.agent_id IS NULL THEN 'the call has no agent'
		ELSE 'its agent has no analysis configured' END;
	given constant text := osmtalk.disposition_by(call.status, analyzed, call.analysis);
	effect text;
	is_latest boolean;
	decided boolean;
	frozen boolean;
BEGIN
	SELECT * INTO lead FROM osmtalk.leads l WHERE l.id = call.lead_id;
	effect := osmtalk.effect_on_lead(call, lead);
	is_latest := lead.call_id IS NOT DISTINCT FROM call.id;
	-- a lead that the application has completed has it from the call all the same
	decided := effect IN ('takes', 'blocked') OR (effect = 'application' AND is_latest AND lead.status = 'completed');
	frozen := decided AND is_latest AND lead.status = 'completed' AND lead.disposition IS DISTINCT FROM given;

	RETURN QUERY SELECT 1, 'Only a completed call gives its lead a disposition', 'the call is ' || call.status,
		CASE WHEN decided THEN call.status <> 'completed' END, decided AND call.status <> 'completed' AND NOT frozen, NULL::text, NULL::text;
	RETURN QUERY SELECT 2, 'Without analysis configured it is completed',
		agent,
		CASE WHEN decided AND call.status = 'completed' THEN NOT analyzed END,
		decided AND call.status = 'completed' AND NOT analyzed AND NOT frozen, 'completed',
		format('Its disposition is completed, because %s.', agent);
	RETURN QUERY SELECT r.number + 2, r.rule, r.saw,
		CASE WHEN decided AND call.status = 'completed' AND analyzed THEN r.matched END,
		decided AND call.status = 'completed' AND analyzed AND NOT frozen AND r.matched AND r.result = given, r.result,
		format('Its disposition is %s, because %s%s.', r.result, r.saw, CASE r.number WHEN 4 THEN ', and no rule before applies' ELSE '' END)
	   FROM osmtalk.disposition_rules(call.analysis) r;
	IF frozen THEN
		RETURN QUERY SELECT 7, 'It is set when the lead is decided, and by later changes of the analysis', 'what is recorded now gives ' || coalesce(given, 'none'),
			true, true, lead.disposition,
			format('Its disposition is %s: the application has set that, or its agent was configured in another way. What is recorded now would make it %s.',
				   osmtalk.quoted(lead.disposition), coalesce(given, 'none'));
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.explain_disposition(osmtalk.calls) IS
'Internal: the rules by which a call gives its lead a disposition, for explain_outcome()';

/* ---- all of it ---- */

CREATE FUNCTION osmtalk.explain_outcome(call_id text)
RETURNS TABLE (step int, decision text, rule text, saw text, matched boolean, winner boolean, result text, explanation text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	call osmtalk.calls;
BEGIN
	SELECT * INTO call FROM osmtalk.calls c WHERE c.id = explain_outcome.call_id AND osmtalk.sees_org(c.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no call "%"', call_id USING ERRCODE = 'no_data_found';
	END IF;
	RETURN QUERY
	WITH rules AS (
		SELECT row_number() OVER (ORDER BY r.part, r.number)::int AS step, r.*
		  FROM (SELECT 1 AS part, 'call' AS decision, s.* FROM osmtalk.explain_status(call) s
				UNION ALL SELECT 2, 'lead', l.* FROM osmtalk.explain_lead(call) l
				UNION ALL SELECT 3, 'disposition', d.* FROM osmtalk.explain_disposition(call) d) r)
	SELECT r.step, r.decision, r.rule, r.saw, r.matched, r.winner, r.result,
		   CASE
			WHEN r.winner THEN coalesce(r.sentence, format('Yes: %s.', r.saw))
			WHEN r.matched THEN format('It applies, too, but has not decided: %s.', r.saw)
			WHEN NOT r.matched THEN format('No: %s.', r.saw)
			ELSE 'It is not looked at.'
		   END
	  FROM rules r
	UNION ALL
	SELECT count(*)::int + 1, 'summary', NULL, NULL, NULL, NULL, NULL,
		   string_agg(r.sentence, ' ' ORDER BY r.step) FILTER (WHERE r.winner)
	  FROM rules r
	ORDER BY 1;
END
$$;
COMMENT ON FUNCTION osmtalk.explain_outcome(text) IS
'Each rule that decides a call, its lead and the disposition, in order: what it saw, whether it matched (null: it was not looked at), which one decided (winner), and in words; the last row says it all in a paragraph. Unknown call: P0002';
