import { Command, Option } from 'clipanion';
import { collectFiles, leftOutLine } from '../../files/local-files.ts';
import { showProgress } from '../../files/progress.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionUpload extends SessionCommand {
  static override paths = [['session', 'upload'], ['upload']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Copy local files and folders into a session',
    examples: [['Into a folder of the session', '$0 session upload my-session data.csv --dst input']],
  });

  dst = Option.String('--dst', { description: 'Folder in the session; /home/work when absent' });
  files = Option.Rest({ name: 'FILES', required: 1 });

  override async perform(): Promise<undefined> {
    const { files, leftOut } = await collectFiles(this.files, this.context.cwd);
    for (const target of leftOut) this.note(leftOutLine(target));
    const session = await this.open();
    const uploaded = [];
    for (const { file, target } of files) {
      const path = this.dst ? `${this.dst.replace(/\/+$/, '')}/${target}` : target;
      const progress = await showProgress(this.context, target);
      try {
        const { bytes } = await session.upload(path, { file }, { onProgress: progress.onProgress });
        uploaded.push({ path, bytes });
      } finally {
        progress.stop();
      }
      this.say(path);
    }
    if (this.json) this.printJson({ session: session.id, files: uploaded, leftOut });
  }
}
