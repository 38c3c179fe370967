import { script } from "./script.js";

/** Tries commands from within a script, as the other scripts call them. */
export const probeScript = script(`
-- ARGV[1]: a JSON array of commands, each an array with its arguments, that change nothing.
-- Returns for each the server's error, or ''.
local errors = {}
for i, command in ipairs(cjson.decode(ARGV[1])) do
  local reply = redis.pcall(unpack(command))
  errors[i] = type(reply) == 'table' and reply.err or ''
end
return errors
`);
