/** Lets node import the scripts of `www/`, which lie there for browsers and so without a `package.json`. */
import { webcrypto } from 'node:crypto';
import { register } from 'node:module';

globalThis.crypto ??= webcrypto; // node 18 keeps it in a module, browsers do not
register('./www-hook.mjs', import.meta.url);
