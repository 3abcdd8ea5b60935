import { ApiCommand, writeFields } from '@backend.ai/cli-kit';
import type { Client, ImageDetails, TaskView } from '@backend.ai/client';
import { AppError, formatBinarySize } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { followTask } from '../../follow-task.ts';
import { listed } from '../../session-creating-command.ts';
import { slotsText } from '../../session-texts.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Images', description, examples: [[what, `$0 image ${line}`]] });

/** A command about one image. */
abstract class ImageCommand extends ApiCommand {
  architecture = Option.String('--arch,--architecture', { description: 'Of the image: x86_64, aarch64' });
  image = Option.String({ name: 'IMAGE', required: true });

  protected get ref(): { image: string; architecture?: string } {
    return { image: this.image, ...(this.architecture ? { architecture: this.architecture } : {}) };
  }
}

export class ImageInfo extends ImageCommand {
  static override paths = [
    ['image', 'info'],
    ['image', 'inspect'],
  ];
  static override usage = usage('Everything about one image', 'info python', 'By any of its names');

  override async perform(): Promise<undefined> {
    const image = await (await this.connect()).images.get(this.image, this.architecture);
    if (this.json) return void this.printJson({ image });
    writeFields(this.context.stdout, fieldsOf(image));
  }
}

function fieldsOf(image: ImageDetails): Array<[string, string]> {
  const lines = (items: readonly string[]): string => items.join('\n') || '-';
  return [
    ['name', image.name],
    ['also', lines(image.aliases)],
    ['architecture', image.architecture],
    ['language', image.language],
    ['role', image.role ?? 'compute'],
    ['at least', slotsText(image.minSlots)],
    ['at most', slotsText(image.maxSlots ?? {}) || '-'],
    ['made for', image.accelerators?.join(', ') ?? '-'],
    ['shared memory', image.shmem === undefined ? '-' : formatBinarySize(BigInt(image.shmem))],
    [
      'services',
      lines(image.servicePorts.map(({ name, protocol, ports }) => `${name} ${protocol} ${ports.join(', ')}`)),
    ],
    ['digest', image.digest ?? '-'],
    ['manifest', image.manifestDigest ?? '-'],
    ['size', image.sizeBytes === null ? '-' : `${formatBinarySize(image.sizeBytes)} compressed`],
    ['registry', image.registry ?? '-'],
    ['made by', image.ownerId ?? '-'],
    ['scanned', image.scannedAt ?? '-'],
    ['on agents', lines(image.installedAgents)],
    ['warnings', lines(image.warnings.map(({ label, problem }) => `${label}: ${problem}`))],
  ];
}

export class ImageRescan extends ApiCommand {
  static override paths = [['image', 'rescan']];
  static override usage = usage('Look what registries have now', 'rescan', 'Into all that are active');
  registryOption = Option.String('-r,--registry', { description: 'Only this one' });
  registry = Option.String({ name: 'REGISTRY', required: false });

  override async perform(): Promise<number> {
    const client = await this.connect();
    const started = await client.admin.images.rescan(this.registry ?? this.registryOption);
    if (started.length === 0)
      this.say('There is no active registry. Add one: ./backend.ai admin registry add NAME URL');
    const scans: Array<{ registry: string; task: TaskView }> = [];
    // One after the other: each has the bar for itself, and those that wait go on meanwhile.
    for (const { registry, taskId } of started) {
      const task = await followTask(this.context, client, taskId, { name: registry, unit: 'count' });
      scans.push({ registry, task });
      this.#tell(registry, task);
    }
    if (this.json) {
      this.printJson({
        scans: scans.map(({ registry, task: { state, result, error } }) => ({
          registry,
          state,
          report: result,
          error,
        })),
      });
    }
    return scans.every(({ task }) => task.state === 'done') ? 0 : 1;
  }

  #tell(registry: string, { state, result, error }: TaskView): void {
    if (state !== 'done') {
      this.note(`${registry}: ${error?.message ?? 'It failed.'} [${error?.code ?? 'internal'}]`);
      return;
    }
    const report = result as NonNullable<Awaited<ReturnType<Client['admin']['registries']['get']>>['lastScan']>;
    const { images, changed, removed, warned, failed } = report;
    this.say(
      `${registry}: ${images} images, ${changed} changed, ${removed} removed, ${warned} with warnings, ${failed} failed`,
    );
    for (const failure of report.failures) this.note(`  ${failure.image}: ${failure.message} [${failure.code}]`);
  }
}

export class ImageAlias extends ApiCommand {
  static override paths = [['image', 'alias']];
  static override usage = usage(
    'Give an image another name',
    'alias py registry.example/team/python:3.11',
    'A short one',
  );
  architecture = Option.String('--arch,--architecture', { description: 'Of the image: x86_64, aarch64' });
  alias = Option.String({ name: 'ALIAS', required: true });
  image = Option.String({ name: 'IMAGE', required: true });

  override async perform(): Promise<undefined> {
    const { alias, image, architecture } = this;
    const input = { alias, image, ...(architecture ? { architecture } : {}) };
    const given = await (await this.connect()).admin.images.alias(input);
    if (this.json) return void this.printJson(given);
    this.say(`${given.alias} means ${given.image} on ${given.architecture}.`);
  }
}

export class ImageDealias extends ApiCommand {
  static override paths = [['image', 'dealias']];
  static override usage = usage('Take a name away', 'dealias py', 'On all architectures');
  architecture = Option.String('--arch,--architecture', { description: 'Only on this one' });
  alias = Option.String({ name: 'ALIAS', required: true });

  override async perform(): Promise<undefined> {
    const { alias, architecture } = this;
    await (await this.connect()).admin.images.dealias({ alias, ...(architecture ? { architecture } : {}) });
    if (this.json) return void this.printJson({ removed: alias });
    this.say(`${alias} is no name of an image any more.`);
  }
}

export class ImageForget extends ImageCommand {
  static override paths = [['image', 'forget']];
  static override usage = usage('Offer an image no more, until a rescan finds it again', 'forget IMAGE', 'By its name');

  override async perform(): Promise<undefined> {
    const forgotten = await (await this.connect()).admin.images.forget(this.ref);
    if (this.json) return void this.printJson(forgotten);
    this.say(
      `${forgotten.image} (${forgotten.architecture}) is forgotten. A rescan finds it again if the registry has it.`,
    );
  }
}

export class ImageDelete extends ImageCommand {
  static override paths = [['image', 'delete']];
  static override usage = usage('Remove an image that was made of a session', 'delete my-tools:1', 'One of your own');

  override async perform(): Promise<number> {
    const report = await (await this.connect()).images.delete(this.image, this.architecture);
    if (this.json) this.printJson({ ...report });
    else this.say(`${report.image} is deleted.`);
    for (const { agent, outcome, message } of report.agents) {
      if (outcome === 'failed') this.note(`  ${agent} has it still: ${message}`);
    }
    return report.agents.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
  }
}

export class ImagePurge extends ImageCommand {
  static override paths = [['image', 'purge']];
  static override usage = usage('Forget an image and remove it from agents', 'purge IMAGE', 'From all that have it');
  agents = Option.Array('--agent', [], { description: 'Only from this agent' });
  forced = Option.Boolean('--force', false, { description: 'Also where stopped containers were made of it' });
  removeFromRegistry = Option.Boolean('--remove-from-registry', false, {
    description: 'The registry has to delete it, too, with all tags that mean the same image',
  });

  override async perform(): Promise<number> {
    const { forced, removeFromRegistry } = this;
    const agents = listed(this.agents);
    const input = { ...this.ref, forced, removeFromRegistry, ...(agents ? { agents } : {}) };
    const report = await (await this.connect()).admin.images.purge(input);
    if (this.json) this.printJson({ ...report });
    this.say(
      `${report.image} (${report.architecture}) is forgotten${report.removedFromRegistry ? ', by its registry, too' : ''}.`,
    );
    for (const { agent, outcome, message } of report.agents) {
      this.say(`  ${agent}: ${outcome}${message === null ? '' : ` (${message})`}`);
    }
    return report.agents.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
  }
}

export class ImagePreload extends ImageCommand {
  static override paths = [['image', 'preload']];
  static override usage = usage(
    'Let agents fetch an image before a session needs it',
    'preload IMAGE',
    'All that could run it',
  );
  agents = Option.Array('--agent', [], { description: 'Only this agent' });

  override async perform(): Promise<number> {
    const client = await this.connect();
    const agents = listed(this.agents);
    const { taskId } = await client.admin.images.preload({ ...this.ref, ...(agents ? { agents } : {}) });
    const { state, result, error } = await followTask(this.context, client, taskId, {
      name: this.image,
      unit: 'bytes',
    });
    if (state !== 'done') {
      return this.fail(
        error ? AppError.fromBody(error) : new AppError('image-pull-failed', 'It could not be fetched.'),
      );
    }
    const report = result as { image: string; agents: ReadonlyArray<{ agent: string; error: string | null }> };
    if (this.json) this.printJson({ ...report });
    for (const each of report.agents) this.say(`${each.agent}: ${each.error ?? 'has it'}`);
    return report.agents.every((each) => each.error === null) ? 0 : 1;
  }
}
