import type { Client, Run, RunOptions, Session } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { RunInSession } from '../../execution/run-in-session.ts';

export class RunSteps extends RunInSession {
  static override paths = [['run']];
  static override usage = Command.Usage({
    description: 'Build and run files',
    details:
      'The files are uploaded, then the steps follow one another: clean, build, exec. A step that is not given is skipped; "*" is what is usual for the files that are there (a Makefile, C sources, setup.py, main.py). What follows a failed build is skipped, with exit code 127.',
    examples: [
      ['A C program', '$0 run --build "gcc -o hello hello.c" --exec ./hello gcc hello.c'],
      ['What is usual for a folder with a Makefile', '$0 run --clean "*" --build "*" --exec "*" gcc Makefile main.c'],
    ],
  });

  clean = Option.String('--clean', { description: 'Command that removes what was built before, or "*"' });
  build = Option.String('--build', { description: 'Command that builds, or "*"' });
  exec = Option.String('--exec', { required: true, description: 'Command that runs it, or "*"' });
  files = Option.Rest({ name: 'FILES' });

  protected override filesToUpload(): readonly string[] {
    return [...this.files, ...this.uploads];
  }

  protected override async start(_client: Client, session: Session, options: RunOptions): Promise<Run> {
    return session.exec({ clean: this.clean, build: this.build, exec: this.exec }, options);
  }
}
