/** What a session made: cards in the chat, and the gallery of all of them. */

import { downloadIcon, fileIcon, infoIcon } from '@jupyterlab/ui-components';
import { useEffect, useState } from 'react';

import type { Artifact, Lineage } from '../api/client';
import type { SessionModel } from '../model/session';
import { IconButton, Note } from './parts';
import { useServices, useSignal } from './services';
import { ago, bytes } from './words';

const PICTURES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];

/** A picture that the server drew small; fetched with the page's own rights. */
function Thumbnail({ artifact, session }: { artifact: Artifact; session: SessionModel }): JSX.Element | null {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    let made: string | null = null;
    let gone = false;
    session.api
      .bytes(`artifacts/${artifact.id}/preview`)
      .then(data => {
        if (!gone) {
          made = URL.createObjectURL(new Blob([data], { type: 'image/png' }));
          setUrl(made);
        }
      })
      .catch(() => undefined);
    return () => {
      gone = true;
      if (made) {
        URL.revokeObjectURL(made);
      }
    };
  }, [artifact.id, session]);
  return url ? <img src={url} alt={artifact.description || artifact.name} /> : <span className="jp-Cellwright-blank" />;
}

function Table({ artifact }: { artifact: Artifact }): JSX.Element | null {
  const about = artifact.metadata as { columns?: { name: string }[]; preview?: unknown[][]; rows?: number };
  if (!about.columns?.length || !about.preview?.length) {
    return null;
  }
  return (
    <div className="jp-Cellwright-table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {about.columns.slice(0, 8).map(column => (
              <th key={column.name}>{column.name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {about.preview.slice(0, 4).map((row, i) => (
            <tr key={i}>
              {row.slice(0, 8).map((cell, j) => (
                <td key={j}>{String(cell ?? '')}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function download(session: SessionModel, artifact: Artifact): void {
  const link = document.createElement('a');
  link.href = session.api.link(`artifacts/${artifact.id}/content`);
  link.download = artifact.name;
  link.click();
}

export function ArtifactCard({
  artifact,
  session,
  whole
}: {
  artifact: Artifact;
  session: SessionModel;
  whole?: boolean;
}): JSX.Element {
  const { trans, openNotebook } = useServices();
  const [lineage, setLineage] = useState<Lineage | null>(null);
  const about = artifact.metadata as { rows?: number; columns?: unknown[] };
  const size = [
    about.rows !== undefined && about.columns ? `${about.rows} × ${about.columns.length}` : '',
    bytes(artifact.size_bytes),
    whole ? ago(artifact.created_at) : ''
  ].filter(Boolean);
  const explain = async () => setLineage(lineage ? null : await session.api.lineage(artifact.id));
  return (
    <div className="jp-Cellwright-card" role="listitem" data-name={artifact.name}>
      <button
        className="jp-Cellwright-card-face"
        onClick={() => download(session, artifact)}
        title={trans.__('Download %1', artifact.name)}
      >
        {PICTURES.includes(artifact.mime_type) ? (
          <Thumbnail artifact={artifact} session={session} />
        ) : (
          <fileIcon.react tag="span" width="20px" height="20px" />
        )}
        <span className="jp-Cellwright-card-name">{artifact.name}</span>
        <span className="jp-Cellwright-card-size">{size.join(' · ')}</span>
      </button>
      {whole && (
        <>
          <Table artifact={artifact} />
          <span className="jp-Cellwright-tools">
            <IconButton icon={downloadIcon} label={trans.__('Download')} onClick={() => download(session, artifact)} />
            <IconButton icon={infoIcon} label={trans.__('Where it comes from')} onClick={() => void explain()} />
          </span>
          {lineage && (
            <div className="jp-Cellwright-lineage">
              {lineage.prompt && <div>{trans.__('Asked: %1', lineage.prompt)}</div>}
              {lineage.cell && (
                <button className="jp-Cellwright-link" onClick={() => void openNotebook(session, lineage.cell!.id)}>
                  {trans.__('Made by the cell: %1', lineage.cell.purpose || lineage.cell.source.split('\n')[0] || '')}
                </button>
              )}
              {lineage.parents.map(parent => (
                <div key={parent.id}>{trans.__('From %1', parent.name)}</div>
              ))}
              {!lineage.prompt && !lineage.cell && <div>{trans.__('Brought by you')}</div>}
            </div>
          )}
        </>
      )}
    </div>
  );
}

export function Gallery({ session }: { session: SessionModel }): JSX.Element {
  const { trans } = useServices();
  useSignal(session.changed);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    session.loadArtifacts().catch(error => setProblem(error.message));
  }, [session]);
  const held = [...session.fold.artifacts.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
  return (
    <div className="jp-Cellwright-view" role="tabpanel" aria-label={trans.__('Artifacts')}>
      {problem && (
        <Note level="error" alert>
          {problem}
        </Note>
      )}
      {held.length === 0 && !problem && (
        <div className="jp-Cellwright-empty">
          {trans.__('Figures, tables and files that the agent makes, and those that you bring, are kept here.')}
        </div>
      )}
      {held.length > 0 && (
        <div className="jp-Cellwright-gallery" role="list">
          {held.map(artifact => (
            <ArtifactCard key={artifact.id} artifact={artifact} session={session} whole />
          ))}
        </div>
      )}
    </div>
  );
}
