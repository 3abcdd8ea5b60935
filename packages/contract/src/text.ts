import { z } from 'zod';

/** PostgreSQL's texts hold no NUL, its JSON no half of a surrogate pair, and neither does a command line or a path. */
const unstorable = /[\0\p{Cs}]/u;

export function isPlainText(text: string): boolean {
  return !unstorable.test(text);
}

/** Text that everything behind the API can take, of at most `maxLength` UTF-16 code units. */
export function plainText(maxLength: number): z.ZodString {
  return z.string().max(maxLength).refine(isPlainText, 'must not contain NUL or half of a surrogate pair');
}

/** Longest texts of a request, in UTF-16 code units, and largest numbers of entries. */
export const inputLimits = {
  /** Of domains, projects, resource groups, tags, sessions in references. */
  name: 64,
  image: 256,
  architecture: 32,
  path: 4_096,
  /** Where a peer is reached. */
  address: 256,
  /** Names of resources, and amounts as texts. */
  slot: 64,
  slots: 64,
  variableName: 256,
  /** The kernel takes 128 KiB for one variable, and a code unit is up to three bytes. */
  variable: 32_768,
  variables: 512,
  /** All names and values of an environment together. */
  environment: 262_144,
  /** What a manager may add to the environment of a kernel: who owns its session. */
  addedVariables: 16,
  addedEnvironment: 4_096,
  /** Kernels of one session. */
  clusterSize: 1_024,
  /** One file, and all of a session: of its key pair, its project and its domain. */
  dotfile: 65_536,
  dotfiles: 300,
  dotfilesTotal: 1_048_576,
  ports: 100,
  sshKey: 16_384,
  /** Name or password for a registry; tokens are long. */
  credential: 8_192,
  /** In UTF-8. */
  bootstrapBytes: 16_384,
  /** One command of a batch. */
  command: 65_536,
  /** A snippet, or what goes to the standard input. */
  code: 4 * 1024 * 1024,
  /** Code before the cursor that is to be completed. */
  completion: 1024 * 1024,
} as const;

const environ = (variables: number, characters: number) =>
  z
    .record(
      z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)
        .max(inputLimits.variableName),
      plainText(inputLimits.variable),
    )
    .refine((all) => Object.keys(all).length <= variables, `must have at most ${variables} variables`)
    .refine(
      (all) => Object.entries(all).reduce((sum, pair) => sum + pair.join('').length, 0) <= characters,
      `must have at most ${characters} characters in all`,
    );

/** What somebody asks for with a session. */
export const environSchema = environ(inputLimits.variables, inputLimits.environment);

/** What an agent is told: as much as can be asked for, and what the manager adds. */
export const kernelEnvironSchema = environ(
  inputLimits.variables + inputLimits.addedVariables,
  inputLimits.environment + inputLimits.addedEnvironment,
);
