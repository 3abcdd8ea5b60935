import { resolve } from 'node:path';
import { examineEngine } from '@backend.ai/agent';
import { createClient, nodeFetch } from '@backend.ai/client';
import { hasCode } from '@backend.ai/core';
import { firstSignal } from '@backend.ai/runtime';
import { Command, Option } from 'clipanion';
import { Cluster } from '../cluster.ts';
import { findCluster } from '../cluster-process.ts';
import { type Credentials, readJson } from '../data-directory.ts';
import { type Aftermath, nextSteps } from '../next-steps.ts';
import { type QuickstartResult, runExample } from '../quickstart.ts';
import { buildPythonImage, quickstartBackend } from '../quickstart-backend.ts';
import { StartingCommand } from './starting-command.ts';

export class QuickstartCommand extends StartingCommand {
  static override paths = [['quickstart']];
  static override usage = Command.Usage({
    category: 'Cluster',
    description: 'start a cluster and run a real job in it, from input to result',
    details: `
      Starts a cluster (or uses the one that runs on this data directory), creates a session, uploads examples/co2, runs
      the program, downloads what it wrote, and shows what happened. Then it stays up until Ctrl-C. With --backend docker
      the image that the example needs is built if there is none, which takes minutes once.
    `,
    examples: [
      ['See it work', '$0 quickstart'],
      ['End after the run; exit code 0 only if all of it worked', '$0 quickstart --exit'],
    ],
  });

  exit = Option.Boolean('--exit', false, { description: 'End after the run' });
  keepSessions = Option.Boolean('--keep-sessions', false, { description: 'Sessions stay when it ends' });
  output = Option.String('--output', 'quickstart-output', { description: 'Folder for the results' });

  async perform(): Promise<number> {
    const signal = firstSignal();
    const begun = performance.now();
    const warnings: string[] = [];
    const running = await findCluster(this.directory);
    const cluster = running ? undefined : await this.#start(warnings);
    const credentials = cluster?.credentials ?? readJson<Credentials>(this.directory.credentialsFile);
    if (!credentials) throw new Error(`${this.directory.credentialsFile} is missing`);
    if (running) this.#progress(`Using the cluster at ${running.endpoint}`);
    const clusterMs = Math.round(performance.now() - begun);
    try {
      const client = createClient({ ...credentials, requestId: this.context.requestId, fetch: nodeFetch });
      const keepSession = !this.exit || this.keepSessions;
      const result = await runExample(client, {
        keepSession,
        outputFolder: resolve(this.context.cwd, this.output),
        onProgress: (line) => this.#progress(line),
        onOutput: (text) => void (this.json || this.context.stdout.write(text.replace(/^(?=.)/gm, '    '))),
      });
      const timings = { clusterMs, ...result.timings, totalMs: Math.round(performance.now() - begun) };
      if (this.json) this.printJson({ ...result, timings, endpoint: credentials.endpoint, credentials, warnings });
      else {
        const ends = cluster !== undefined && this.exit;
        this.#show({ ...result, timings }, credentials, {
          cluster: ends ? 'ended' : cluster ? 'this-process' : 'another-process',
          session: keepSession ? result.sessionName : undefined,
          prefix: this.prefix,
        });
      }
      await this.noteLogin(credentials.endpoint);
    } catch (error) {
      await cluster?.stop({ keepSessions: false });
      throw error;
    }
    if (!cluster) return 0;
    if (!this.exit) {
      this.say('\nThe cluster stays up until Ctrl-C.');
      await Promise.race([signal, cluster.stopped]);
    }
    await cluster.stop({ keepSessions: this.keepSessions });
    return 0;
  }

  async #start(warnings: string[]): Promise<Cluster> {
    const { line, needsImage } = quickstartBackend(this.config.backend!, await examineEngine(this.engineSocket));
    this.#progress(line);
    if (needsImage) await buildPythonImage(this.context.env);
    this.#progress('Starting a cluster in this process');
    try {
      return await Cluster.start(this.config);
    } catch (error) {
      if (!hasCode(error, 'isolation-unavailable')) throw error;
      const warning =
        'This machine offers no sandbox: the example runs as an ordinary program of yours, without isolation. ' +
        'Do not run programs that you do not trust; see ./backend.ai doctor.';
      warnings.push(warning);
      this.#progress(`Warning: ${warning}`);
      return await Cluster.start({ ...this.config, allowUnisolated: true });
    }
  }

  #progress(line: string): void {
    this.context.stderr.write(`${line.startsWith(' ') ? line : `▸ ${line}`}\n`);
  }

  #show(result: QuickstartResult, { endpoint, accessKey, secretKey }: Credentials, after: Aftermath): void {
    const { timings } = result;
    const ms = (value: number | undefined): string => `${Math.round(value ?? 0)} ms`;
    const lines: Array<readonly [string, string]> = [
      ...result.files.map(({ name, path, bytes }) => [`Result ${name}`, `${path} (${bytes} bytes)`] as const),
      ['Session', `${result.sessionName} ${result.sessionId}, ${result.image}`],
      ['Request id', this.context.requestId],
      [
        'Timings',
        `cluster ${ms(timings.clusterMs)}, session running after ${ms(timings.runningMs)} ` +
          `(scheduled after ${ms(timings.scheduledMs)}), upload ${ms(timings.uploadMs)}, run ${ms(timings.runMs)}, ` +
          `download ${ms(timings.downloadMs)}, all ${ms(timings.totalMs)}`,
      ],
      ['Cluster', after.cluster === 'ended' ? `${endpoint}, ends now; its keys are those of the next start` : endpoint],
      ['Access key', accessKey],
      ['Secret key', secretKey],
    ];
    const width = Math.max(...lines.map(([name]) => name.length));
    this.say('');
    for (const [name, value] of lines) this.say(`${name.padEnd(width)}  ${value}`);
    this.say('');
    for (const line of nextSteps(after)) this.say(line);
  }
}
