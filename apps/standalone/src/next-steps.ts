/** What is left when `quickstart` has shown its result. */
export interface Aftermath {
  readonly cluster: 'this-process' | 'another-process' | 'ended';
  /** The one it made; undefined: it ends. */
  readonly session: string | undefined;
  /** Stands before commands, so that they find the cluster. */
  readonly prefix: string;
}

/** Lines for people: commands that work then. */
export function nextSteps({ cluster, session, prefix }: Aftermath): string[] {
  const commands = [
    ...(cluster === 'ended' ? ['up --detach'] : []),
    ...(session === undefined ? [] : [`session exec ${session} -- ls -l`]),
    "run python -c 'print(6 * 7)'",
    'session create -r cpu=1 -r mem=512m --name mine python',
    'ps',
    ...(cluster === 'ended' ? ['down'] : []),
  ];
  return [
    cluster === 'this-process' ? 'Try next, in another terminal:' : 'Try next:',
    ...commands.map((command) => `  ${prefix}./backend.ai ${command}`),
  ];
}
