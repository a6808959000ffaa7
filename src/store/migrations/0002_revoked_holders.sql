-- Whose a revoked membership was: tokens need not name the membership. Null in older rows, and for what is no membership.
ALTER TABLE revocations ADD COLUMN user_id TEXT;
ALTER TABLE revocations ADD COLUMN organization_id TEXT;
