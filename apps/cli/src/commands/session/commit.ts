import type { CommittedImage } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { followTask } from '../../follow-task.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionCommit extends SessionCommand {
  static override paths = [
    ['session', 'commit'],
    ['session', 'convert-to-image'],
  ];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Make an image of a running session in a container',
    details: `Kept is what its programs changed outside of the home folder, of /tmp and of mounted folders; its environment is
      not. The session stands still meanwhile. The image is yours alone.`,
    examples: [
      ['Sessions can be made of it at once', '$0 session commit my-session my-tools:1'],
      ['By the name that the official command line gives it', '$0 session convert-to-image my-session my-tools'],
    ],
  });

  noWait = Option.Boolean('--no-wait', false, { description: 'Return when it has begun' });
  image = Option.String({ name: 'IMAGE[:TAG]' });

  override async perform(): Promise<number | undefined> {
    const session = await this.open();
    const { taskId, image } = await session.commit(this.image);
    if (this.noWait) {
      if (this.json) this.printJson({ taskId, image });
      else this.say(`${image} is being made`);
      return undefined;
    }
    const { state, result, error } = await followTask(this.context, await this.connect(), taskId, {
      name: this.image,
      unit: 'bytes',
    });
    if (state !== 'done') {
      return this.fail(
        error ? AppError.fromBody(error) : new AppError('image-commit-failed', 'The image could not be made.'),
      );
    }
    const made = result as CommittedImage;
    if (this.json) return void this.printJson({ ...made });
    this.say(`${this.image} is an image of yours now, on ${made.agent}, and there only: ${made.image}`);
    return undefined;
  }
}
