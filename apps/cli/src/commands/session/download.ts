import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { showProgress } from '../../files/progress.ts';
import { type Unpacked, unpack } from '../../files/unpack.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionDownload extends SessionCommand {
  static override paths = [['session', 'download'], ['download']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Copy files and folders of a session to this machine',
    examples: [['A folder', '$0 session download my-session results --dest .']],
  });

  dest = Option.String('--dest', '.', { description: 'Local folder' });
  remote = Option.Rest({ name: 'PATHS', required: 1 });

  override async perform(): Promise<undefined> {
    const session = await this.open();
    const folder = resolve(this.context.cwd, this.dest);
    const files: string[] = [];
    const leftOut: Unpacked['leftOut'][number][] = [];
    for (const path of this.remote) {
      const progress = await showProgress(this.context, path);
      try {
        const unpacked = await unpack(session.archive(path, { onProgress: progress.onProgress }), folder);
        files.push(...unpacked.files);
        leftOut.push(...unpacked.leftOut);
        for (const name of unpacked.files) this.say(name);
        for (const { name, reason } of unpacked.leftOut) this.note(`left out: ${name} (${reason})`);
      } finally {
        progress.stop();
      }
    }
    if (this.json) this.printJson({ session: session.id, folder, files, leftOut });
  }
}
