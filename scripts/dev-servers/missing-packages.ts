/** Prints the packages of those named servers that are not installed, one in a line: for scripts/test.sh. */
import { missingPackages, type ServerPrograms } from './programs.ts';

for (const name of missingPackages(process.argv.slice(2) as Array<keyof ServerPrograms>)) console.log(name);
