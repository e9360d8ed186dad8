import { LabIcon } from '@jupyterlab/ui-components';

import cellwright from '../style/icons/cellwright.svg';

export const cellwrightIcon = new LabIcon({ name: 'cellwright:logo', svgstr: cellwright });
