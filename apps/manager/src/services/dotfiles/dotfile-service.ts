import {
  type CallContext,
  type DotfileApi,
  type DotfileView,
  dotfileLimits,
  type WriteDotfileInput,
} from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import type { DotfileRepository } from '../../repositories/dotfiles.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { actorOf } from '../sessions/session-service.ts';

/** Files and the script that sessions of the actor's key pair begin with. What they contain is in no log. */
export class DotfileService implements DotfileApi {
  readonly #dotfiles: DotfileRepository;
  readonly #audit: AuditLog;

  constructor(dotfiles: DotfileRepository, audit: AuditLog) {
    this.#dotfiles = dotfiles;
    this.#audit = audit;
  }

  async list(ctx: CallContext): Promise<DotfileView[]> {
    return await this.#dotfiles.list(actorOf(ctx).accessKey);
  }

  async get({ path }: { path: string }, ctx: CallContext): Promise<DotfileView> {
    return found(await this.list(ctx), path);
  }

  async create(input: WriteDotfileInput, ctx: CallContext): Promise<void> {
    const { path, permission } = input;
    await this.#change(ctx, path, { create: { permission } }, async (tx, accessKey, files) => {
      if (files.some((file) => file.path === path))
        throw new AppError('object-exists', `There is a dotfile ${path} already.`);
      checkLimits([...files, input]);
      checkPlace(path, files);
      await this.#dotfiles.write(tx, accessKey, input);
    });
  }

  async modify(input: WriteDotfileInput, ctx: CallContext): Promise<void> {
    const { path, permission } = input;
    await this.#change(ctx, path, { modify: { permission } }, async (tx, accessKey, files) => {
      found(files, path);
      checkLimits([...files.filter((file) => file.path !== path), input]);
      await this.#dotfiles.write(tx, accessKey, input);
    });
  }

  async delete({ path }: { path: string }, ctx: CallContext): Promise<void> {
    await this.#change(ctx, path, { delete: true }, async (tx, accessKey, files) => {
      found(files, path);
      await this.#dotfiles.remove(tx, accessKey, path);
    });
  }

  async bootstrapScript(ctx: CallContext): Promise<{ script: string }> {
    return { script: await this.#dotfiles.bootstrapScript(actorOf(ctx).accessKey) };
  }

  async setBootstrapScript({ script }: { script: string }, ctx: CallContext): Promise<void> {
    await this.#change(ctx, 'bootstrap-script', { set: script !== '' }, async (tx, accessKey) => {
      await this.#dotfiles.setBootstrapScript(tx, accessKey, script);
    });
  }

  async #change(
    ctx: CallContext,
    id: string,
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, accessKey: string, files: readonly DotfileView[]) => Promise<void>,
  ): Promise<void> {
    const actor = actorOf(ctx);
    const target = { kind: 'dotfile', id, domain: actor.domain };
    await this.#audit.change({ actor, action: 'dotfile:modify', target, changes }, async (tx) => {
      await this.#dotfiles.lock(tx, actor.accessKey);
      await work(tx, actor.accessKey, await this.#dotfiles.list(actor.accessKey, tx));
    });
  }
}

function found(files: readonly DotfileView[], path: string): DotfileView {
  const file = files.find((each) => each.path === path);
  if (!file) throw new AppError('object-not-found', `There is no dotfile ${path}.`);
  return file;
}

/** @throws AppError `invalid-input` */
function checkLimits(files: readonly DotfileView[]): void {
  if (files.length > dotfileLimits.files) throw wrong('path', `would be more than ${dotfileLimits.files} files`);
  const bytes = files.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
  if (bytes > dotfileLimits.bytes) throw wrong('content', `would be more than ${dotfileLimits.bytes} bytes in all`);
}

/** A file has no other ones below it. @throws AppError `invalid-input` */
function checkPlace(path: string, files: readonly DotfileView[]): void {
  const other = files.find((file) => file.path.startsWith(`${path}/`) || path.startsWith(`${file.path}/`));
  if (other) throw wrong('path', `does not go together with the dotfile ${other.path}`);
}

function wrong(field: string, problem: string): AppError {
  return new AppError('invalid-input', `Invalid input: ${field} ${problem}.`, {
    data: { fields: { [field]: problem } },
  });
}
