/** Lets node import the scripts of `www/`, which lie there for browsers and so without a `package.json`. */
import { register } from 'node:module';

register('./www-hook.mjs', import.meta.url);
