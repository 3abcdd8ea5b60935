/** Prints the packages of servers that are not installed, one in a line: for scripts/test.sh. */
import { missingPackages, type ServerPrograms, serverPackages } from './programs.ts';

const all = Object.keys(serverPackages) as Array<keyof ServerPrograms>;
for (const name of missingPackages(all)) console.log(name);
