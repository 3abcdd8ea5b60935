/** Prints the packages of servers that are not installed, one in a line: for scripts/test.sh. */
import { missingPackages } from './programs.ts';

for (const name of missingPackages()) console.log(name);
