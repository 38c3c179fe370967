#!/usr/bin/env node
import { main } from "./program.js";
import { endWhenUnread } from "./unread.js";

endWhenUnread();
void main(process.argv.slice(2));
