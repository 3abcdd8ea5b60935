import type { Duplex } from 'node:stream';
import type { ServicePort, ServiceStart, ServiceView, StartServiceInput } from '@backend.ai/contract';
import { AppError, type Clock, delay } from '@backend.ai/core';
import type { RunnerClient } from '../runner/index.ts';
import { type Program, parseServiceDefinition, planService, type ServiceDefinition } from './service-definition.ts';
import { sshdDefinition, sshdService } from './sshd.ts';

export interface KernelServicesOptions {
  readonly client: RunnerClient;
  /** What the image offers, and the ports that programs of the user will listen on. */
  readonly services: readonly ServicePort[];
  /** @throws AppError when nothing listens there */
  readonly connect: (port: number) => Promise<Duplex>;
  readonly clock: Clock;
  /** Where the image has its definitions, as the kernel sees it. */
  readonly definitionsFolder?: string;
}

/** A service listens after so long, all that happens before it included, or has failed; whoever asked waits longer. */
const readyMs = 30_000;
const lookAgainMs = 100;
/** What happens before a service may take this long each. */
const beforeMs = 20_000;

/**
 * The services of a kernel, started when somebody asks. Nothing is remembered: the runner knows what runs, so that an
 * agent that was started again knows as much.
 */
export class KernelServices {
  readonly #options: KernelServicesOptions;
  readonly #starting = new Map<string, Promise<ServiceStart>>();

  constructor(options: KernelServicesOptions) {
    this.#options = options;
  }

  async list(): Promise<ServiceView[]> {
    const definitions = await this.#definitions();
    return this.#options.services.map((service) => {
      const definition = tolerant(service.name, definitions);
      return {
        ...service,
        ...(definition?.url_template === undefined ? {} : { urlTemplate: definition.url_template }),
        ...(definition ? { allowedArguments: definition.allowed_arguments, allowedEnvs: definition.allowed_envs } : {}),
      };
    });
  }

  /**
   * Makes sure that it listens. One that runs already is a success, whatever it was started with.
   * @throws AppError `object-not-found` when there is no such service, `invalid-input`
   */
  async start(request: StartServiceInput): Promise<ServiceStart> {
    const present = this.#starting.get(request.service);
    if (present) return await present;
    const starting = this.#start(request).finally(() => this.#starting.delete(request.service));
    this.#starting.set(request.service, starting);
    return await starting;
  }

  async stop(name: string): Promise<void> {
    this.#find(name);
    await this.#options.client.stopProgram(name);
  }

  async #start({ service: name, envs, arguments: given }: StartServiceInput): Promise<ServiceStart> {
    const { client, clock } = this.#options;
    const service = this.#find(name);
    const { ports } = service;
    const deadline = clock.monotonic() + readyMs;
    if (service.protocol === 'preopen') return { status: 'running', ports };
    if ((await client.program(name))?.running) return await this.#ready(name, ports, 'running', deadline);
    const definition = (await this.#definitions()).get(name);
    if (definition === undefined) {
      // Its image starts it by itself.
      return await this.#ready(name, ports, 'running', clock.monotonic());
    }
    const plan = planService(name, parseServiceDefinition(name, definition), { ports, envs, arguments: given });
    for (const [at, program] of plan.before.entries()) {
      const failure = await this.#runToEnd(`${name}.before${at}`, program, deadline);
      if (failure) return failed(ports, failure);
    }
    if (plan.main) await client.startProgram(name, plan.main);
    return await this.#ready(name, ports, 'started', deadline);
  }

  async #ready(
    name: string,
    ports: readonly number[],
    status: 'started' | 'running',
    deadline: number,
  ): Promise<ServiceStart> {
    const { client, clock, connect } = this.#options;
    for (;;) {
      const program = await client.program(name);
      if (program && !program.running) return failed(ports, endedText(program));
      try {
        (await connect(ports[0] ?? 0)).destroy();
        return { status, ports: [...ports] };
      } catch (error) {
        if (clock.monotonic() >= deadline) {
          return failed(ports, `It does not listen on port ${ports[0]}. ${program?.tail ?? ''}`.trim(), error);
        }
      }
      await delay(clock, lookAgainMs);
    }
  }

  async #runToEnd(name: string, program: Program, latest: number): Promise<string | undefined> {
    const { client, clock } = this.#options;
    await client.startProgram(name, program);
    const deadline = Math.min(clock.monotonic() + beforeMs, latest);
    for (;;) {
      const now = await client.program(name);
      if (now && !now.running) return now.exitCode === 0 ? undefined : endedText(now);
      if (clock.monotonic() >= deadline) {
        await client.stopProgram(name);
        return `${program.argv[0]} does not come to an end.`;
      }
      await delay(clock, lookAgainMs);
    }
  }

  #find(name: string): ServicePort {
    const found = this.#options.services.find((service) => service.name === name);
    if (found) return found;
    const names = this.#options.services.map((service) => service.name);
    throw new AppError('object-not-found', `The session has no service "${name}".`, {
      hint: names.length === 0 ? 'Its image offers none.' : `It has: ${names.join(', ')}`,
    });
  }

  async #definitions(): Promise<ReadonlyMap<string, string>> {
    const { client, definitionsFolder = '/etc/backend.ai/service-defs' } = this.#options;
    return new Map([...builtIn, ...(await client.definitions(definitionsFolder))]);
  }
}

/** What an image need not describe. */
const builtIn: ReadonlyMap<string, string> = new Map([[sshdService.name, JSON.stringify(sshdDefinition)]]);

function tolerant(name: string, definitions: ReadonlyMap<string, string>): ServiceDefinition | undefined {
  const json = definitions.get(name);
  if (json === undefined) return undefined;
  try {
    return parseServiceDefinition(name, json);
  } catch {
    // Who starts it is told.
    return undefined;
  }
}

function endedText({ exitCode, tail }: { readonly exitCode: number | null; readonly tail: string }): string {
  return `It ended with exit code ${exitCode}. ${tail.trim().split('\n').slice(-5).join('\n')}`.trim();
}

function failed(ports: readonly number[], error: string, _cause?: unknown): ServiceStart {
  return { status: 'failed', ports: [...ports], error: error.slice(0, 2000) };
}
